"""How language models learn: each system of the argument, small and runnable, and the page that walks through them."""
