"""Pointmaps of RGB cameras with known intrinsics and poses, by triangulation.

1. `pointmaps.refined_poses`: the given poses, so that matched features lie on epipolar lines.
2. `depth_range`: which depths a pair is searched for.
3. `rectification`: both images warped so that rows are epipolar lines.
4. `matching`: semi-global matching in both directions, and its disparities as points.
5. `confidence`: the standard deviation of a disparity, and where it has no support.
6. `agreement`: whether the pairs of a view triangulate it alike, and whose pose is wrong.
7. `backend`: views in, pair predictions out; which pairs are suitable.

Settings are in `config`. Thresholds that name no source have none on record;
docs/explanation/stereo.md has what all of them give, on constructed scenes and a real one.
"""
