"""What answers behind the gateway: llama.cpp, transformers or vLLM, a module each.

`engine` says what each must know to do.
"""
