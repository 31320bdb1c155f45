# Task prompts in the function's syntax, so that the plan, not a failing container, reports a wrong task prompt: `<OD>`, `od`,
# `<OPEN_VOCABULARY_DETECTION>a car`, `open-vocabulary-detection: a car`. A test compares these patterns with the function.
locals {
  tasks = [
    {
      names = ["CAPTION", "DETAILED_CAPTION", "MORE_DETAILED_CAPTION", "OCR", "OCR_WITH_REGION", "OD", "DENSE_REGION_CAPTION", "REGION_PROPOSAL"]
      after = ""
    },
    # The function's limit is 500 bytes; this pattern counts characters.
    {
      names = ["CAPTION_TO_PHRASE_GROUNDING", "REFERRING_EXPRESSION_SEGMENTATION", "OPEN_VOCABULARY_DETECTION"]
      after = "[^\\s<>[:cntrl:]][^<>[:cntrl:]]{0,499}"
    },
    {
      names = ["REGION_TO_SEGMENTATION", "REGION_TO_CATEGORY", "REGION_TO_DESCRIPTION", "REGION_TO_OCR"]
      after = "(?:<loc_[0-9]{1,3}>){4}"
    },
  ]

  task_patterns = [
    for kind in local.tasks :
    "^\\s*(?:<(?i:${join("|", kind.names)})>|(?i:${replace(join("|", kind.names), "_", "[-_]")})\\s*(?::|$))\\s*${kind.after}\\s*$"
  ]
}
