"""The relative pose of two RGB-D views.

1. `frame`: a view is prepared once for all of its pairs: texture, and the samples that register.
2. `prior`: the pose that kinematics give, as a Gaussian; or, without one,
   `features`: the pose that matched SIFT features with depth agree on (RANSAC).
3. `dense`: that pose refined on all samples, by Gauss-Newton from coarse to fine. `objective` has
   the residuals (point to plane, brightness), `system` their normal equations and which directions
   of these the data determine.
4. `pair`: the result, or the start where the result is not plausible, or the reason for neither.
"""
