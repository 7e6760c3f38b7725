"""Whether all is well: scene validity, diagnostics."""
