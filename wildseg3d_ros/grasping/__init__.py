"""What grasp planners ask of an object and of its surroundings, from a scene.

Everything is in the scene's frame and unit; points, normals and boxes are carried elsewhere by the
caller. :class:`wildseg3d_ros.grasping.graspable.GraspableScene` keeps what several answers share.
"""
