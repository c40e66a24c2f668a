"""Published weights to registered versions."""
