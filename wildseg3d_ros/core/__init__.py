"""The ground: types, geometry, files, errors, settings, progress; imports nothing above it."""
