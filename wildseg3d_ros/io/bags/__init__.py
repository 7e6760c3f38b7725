"""ROS 2 bags, without ROS.

What a bag says of itself is distrusted, and read here; rosbags (extra ``bags``) knows the types of
messages, and writes.

metadata: the files of a bag.
storage: what the messages of one file may be, whichever storage it has: mcap, sqlite.
reading: the messages of a bag, in order.
topics: which topics are a camera's.
robot: left out of the views.
loading: a bag as a recording.
writing: bags, message by message.
"""
