"""Pages to read, hear, search and correct: one a recording, and an index of the archive."""
