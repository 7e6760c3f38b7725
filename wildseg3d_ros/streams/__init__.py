"""What cameras and TF publish, whoever brings it: rclpy or a bag. Nothing here needs ROS.

messages: the fields of messages that are read.
images, compressed, rvl, camera_info: from messages to arrays and lenses.
config: where cameras publish, and a rig's parameter file.
frames: messages of one camera that belong together, and sets of one time.
decoding: the messages of one camera as image, depth and lens.
tf: poses of frames at a time.
capture: the cameras' frames of one time as views.
"""
