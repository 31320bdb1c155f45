"""Florence-2's layers and search over the tensors of a checkpoint, written for speed."""
