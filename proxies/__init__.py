"""Zero-cost proxies, the passes that they read, and the service that scores with them."""
