"""Many recordings become scenes: resumable, on processes of this machine or on Ray.

:func:`wildseg3d_ros.batch.run.run_batch` is the whole; ``wildseg3d batch`` calls it. Each
recording gets a folder in the output: the scene, and ``record.json``, which is written last and
says of what input and which settings it was made.
"""
