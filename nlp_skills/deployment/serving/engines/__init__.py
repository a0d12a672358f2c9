"""What answers behind the gateway: llama.cpp, transformers or vLLM, one module each; `engine` says what it must know."""
