"""Object masks by SAM 2 (Ravi et al., 2024), EdgeTAM or SAM 3, from the models of transformers."""
