"""The command line: `taskq`, or `python -m taskq`.

One module per command or family of commands. They meet in two places:
`taskq.cli.session` knows which application and broker a command is about,
`taskq.cli.output` how things are shown to a person or a program. rich, the
worker and the user's modules are imported only by the commands that need them.
"""
