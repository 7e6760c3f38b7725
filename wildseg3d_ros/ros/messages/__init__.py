"""ROS messages <-> arrays and the types of the core; no node, no state. What cameras publish is
read by :mod:`wildseg3d_ros.streams`.

conversions: times, images, transforms.
clouds: point clouds.
grasps: boxes and poses.
requests, replies: the client's side of the services.
"""
