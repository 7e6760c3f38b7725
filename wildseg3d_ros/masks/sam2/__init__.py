"""Object masks by SAM 2 (Ravi et al., 2024) or EdgeTAM, from the models of transformers."""
