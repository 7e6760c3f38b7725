"""Objects that are added, refined or recovered after a scene was built.

By the tree of masks: ``leaves`` adds and corrects objects as sets of leaves, ``cutting`` cuts a
leaf in two between clicks, ``lifting`` finds the leaves of a replaced image.

By the network of a back end that takes prompts and knows no tree (``masks/sources.py`` says what
it offers): ``finding`` finds one object in all views, proposed where it is prompted, lifted into
the other views, checked there; ``adding`` puts it into the mask cache; ``refining`` corrects a
cached object by clicks.

``updating`` replaces the masks of one view; ``recovering`` finds objects again that its new image
lost.
"""
