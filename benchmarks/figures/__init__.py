"""The pictures and tables of the documentation that show results.

``make figures`` (``python -m benchmarks.figures [NAME ...]``) makes all of them, or those that are
named: pictures in docs/images, tables in the pages. It says before each how long it took last. A
run that was stopped goes on where it was: what is done is noted in out/figures, with the output of
each benchmark.

1. :mod:`.sections`: what there is to make, in its order, and how.
2. :mod:`.pictures` draws what no other program draws: :mod:`.answers`, :mod:`.errors`.
3. :mod:`.tables` puts what benchmarks measured into the tables of the pages.

The recordings are the shipped table, whose truth is known, and the real shelf, where it is there
(WILDSEG3D_DATA). Colours can be told apart by readers who are colour-blind: objects have those of
Okabe and Ito (2008), then some of Tol (2021), and an id beside; magnitudes have matplotlib's
``viridis``.
"""
