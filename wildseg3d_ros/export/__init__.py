"""Everything that a scene holds, as files of other tools.

formats: the formats by name, and the export of a scene into a folder. target: that folder, in
which nothing that is not ours is replaced. contents: the objects, masks and depth that the formats
are made from. clouds, coco, bop, nerfstudio, meshes, page: one format each, as a plan of files.
docs/how-to/export.md says what each of them is for.
"""
