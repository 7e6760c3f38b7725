"""Programs to copy from: each is the whole of one job, and runs as `ros2 run wildseg3d NAME`.

click, wrist: from running cameras to a cloud. moveit_objects, gpd_samples, graspnet_file: what was
clicked, for those who move an arm.
"""
