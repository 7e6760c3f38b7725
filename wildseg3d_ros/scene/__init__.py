"""The scene snapshot, its object index, and how prompts are answered (Multi-view Group Mapping)."""
