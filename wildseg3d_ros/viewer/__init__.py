"""A web page to click objects in, on a scene's file or a running scene node.

What the page shows and asks goes through one interface, :mod:`wildseg3d_ros.viewer.source`, with
two implementations: ``file_source`` for a file, ``ros_source`` for a node. ``session`` is what one
browser has selected, ``page`` what it sees, ``server`` how that is served, ``command`` how it is
started.
"""
