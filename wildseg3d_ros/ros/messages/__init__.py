"""ROS messages <-> arrays and the types of the core; no node, no state.

conversions: times, images, transforms.
compressed: images of the plugins of image_transport.
camera_info: a camera's lens.
clouds: point clouds.
grasps: boxes and poses.
requests, replies: the client's side of the services.
"""
