"""The ground: types, geometry, errors, settings and progress; imports nothing of ours above it."""
