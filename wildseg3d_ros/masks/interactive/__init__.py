"""Objects that are added, refined or recovered after a scene was built.

``masks/sources.py`` says what proposes masks for prompts: the network of a back end, or
``region_growing``, which needs none. The steps, in order:

1. ``seeds``: which patch of the fused surface each prompted pixel shows (region growing only).
2. ``regions``: parts of the surface about these patches that the prompts may mean (likewise).
3. ``finding``: one object in all views: proposed where it is prompted, lifted into the other
   views, checked there.
4. ``adding`` puts it into the mask cache; ``refining`` corrects a cached object by clicks;
   ``recovering`` finds objects again that a replaced image lost.
"""
