"""Small writers of image files with every detail of the headers in the caller's hand."""
