"""Requests and replies of the node's services."""
