"""The Gradio app: classifies with the newest registered network and shows gridding in DRN-A, B and C side by side."""
