"""Trains the network that the masks learn from: ``wildseg3d train-masks``.

Everything is made here: random scenes are recorded by :mod:`wildseg3d_ros.sim`, the network is
trained on their views, and written as an ONNX file that OpenCV runs without PyTorch.
"""
