"""Configs of diffusers schedulers: schedule and grid."""
