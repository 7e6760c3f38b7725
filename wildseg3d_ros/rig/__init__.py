"""Whether the given cameras and what they see support each other, before anything is aligned.

The alignment compares given poses by the pairs of views that survive. Where all poses are wrong in
one way no pair survives, the poses alone hold the scene, and nothing is left to contradict them.
So the views are compared here as they are given, and as they would be if one of the usual mistakes
had been made:

- :mod:`~wildseg3d_ros.rig.cameras`: the cameras, and which pairs of them are compared;
- :mod:`~wildseg3d_ros.rig.surfaces`: evidence of depth: does a view see the others' surfaces;
- :mod:`~wildseg3d_ros.rig.matches`: evidence of plain images: matched features;
- :mod:`~wildseg3d_ros.rig.focal`: a focal length that all have wrong, by features alone;
- :mod:`~wildseg3d_ros.rig.mistakes`: what is usually wrong, and the cameras without it;
- :mod:`~wildseg3d_ros.rig.pose_error`: the cameras as given, to within an honest error;
- :mod:`~wildseg3d_ros.rig.judge`: what is borne out, and the mistake that explains what is not;
- :mod:`~wildseg3d_ros.rig.report`: the verdict, by camera and as a whole;
- :mod:`~wildseg3d_ros.rig.check_pictures`: pictures of pairs and of all cameras, as given and as
  :mod:`~wildseg3d_ros.rig.aligned` (:mod:`~wildseg3d_ros.rig.pictures`,
  :mod:`~wildseg3d_ros.rig.overview`);
- :mod:`~wildseg3d_ros.rig.page`: a page about it for people, with them.

All evidence is one number per pair of views: the logarithm of how much likelier what is seen is
with the cameras of a hypothesis than with cameras that have nothing to do with each other. It is
positive where surfaces coincide, about zero where the views have nothing in common, and negative
where one view sees through what another one measured.
"""
