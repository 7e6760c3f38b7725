"""ROS 2 bags, without ROS: by rosbags (extra ``bags``).

reading: the messages of a bag, in order.
topics: which topics are a camera's.
robot: left out of the views.
loading: a bag as a recording.
writing: bags, message by message.
"""
