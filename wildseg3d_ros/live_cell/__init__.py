"""The simulated cell as live cameras: a robot cell without hardware.

world: the cell as it changes, and what its cameras sense, new noise in every frame; free of ROS.
node: publishes it, and changes it on request.
demo: cell, scene node and page together, by one command.
"""
