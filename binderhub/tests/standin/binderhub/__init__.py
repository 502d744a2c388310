"""A stand-in for BinderHub, so that the tests need neither it nor Kubernetes.

It mirrors what the adapter meets of commit b9fad995 (2026-04-20) of jupyterhub/binderhub, written from a
description of its behavior.
"""
