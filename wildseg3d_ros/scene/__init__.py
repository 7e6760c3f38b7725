"""The snapshot that answers prompts: object index, prompting, saving and loading."""
