"""What the node publishes, and the topics by which it is clicked.

overlays: pictures of objects, and boxes for RViz.
scene: the whole scene and its labels.
selection: what was selected last.
prompts: clicks of RViz and rqt_image_view.
"""
