"""Files that are read with guards and written beside: the one way in and out of the disk.

reading: bytes of a regular file of bounded size. writing: beside, then renamed.
text: JSON and YAML of bounded depth. arrays: .npy, .npz and zip members whose claims are checked.
pictures: what an image's header says, before it is decoded.

What is wrong with a file is a FileError of one line that names it, whatever the bytes are.
"""
