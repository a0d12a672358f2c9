"""The machine under the tasks: the plugin's managed environment, and what is installed, missing or too small.

In: the plugin's folder and this computer. Out: an environment to run in, and a plain list of checks.
`environment` and `setup` are standard library only and run on Python 3.9: they run before anything is installed.
"""
