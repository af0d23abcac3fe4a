"""Receipts and explanations in; text and HTML with pictures out. No torch, no runtime, no JavaScript, no other file."""
