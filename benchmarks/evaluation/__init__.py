"""The simulated cell as a test bench: what a scene is worth when one thing gets worse at a time.

``make evaluation`` measures and draws (docs/explanation/evaluation.md). ``stages`` makes scenes
with their truth, ``sensing`` what cameras deliver of them, ``scoring`` compares answers with the
truth, ``experiments`` lists what is measured, ``live`` measures on running nodes, and ``plots``
draws. Results are kept case by case, so that a run that was stopped goes on.
"""
