"""What tests and benchmarks share: constructed scenes with exact truth, back ends that answer from
it, networks with weights by rule.

It is not installed with the package. Tests and benchmarks run from the repository's root find it.
"""
