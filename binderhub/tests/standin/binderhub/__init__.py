"""A stand-in for BinderHub, so that the tests need neither it nor Kubernetes.

It has the parts of jupyterhub/binderhub (commit b9fad995, 2026-04-20) that the adapter uses, written from a
description of their behavior.
"""
