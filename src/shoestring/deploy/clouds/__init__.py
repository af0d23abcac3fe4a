"""Point clouds from files, without torch: one reader a family of formats, each a function of the file's bytes."""
