"""Dynamic Global Alignment: all pairs in one world."""
