"""What the node publishes, and the topics by which it is clicked.

images: images with their compressed siblings.
overlays: pictures of objects, and boxes for RViz.
selection: what was selected last.
scene: the whole scene and its labels; makes the topics of the selection, too.
prompts: clicks of RViz and rqt_image_view.
"""
