"""Click an object in one camera, get its point cloud from all of them (WildSeg3D for ROS 2)."""

__version__ = "0.1.0"
