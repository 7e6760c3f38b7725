"""Things by their names: SAM 3 (Carion et al., 2025, arXiv 2511.16719), from transformers."""
