"""The robust solve over the similarities of all pairs."""
