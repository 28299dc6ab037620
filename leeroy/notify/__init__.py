"""
Telling people: what a notice says, whom it reaches, and how it gets there.

    compose     what a notice says, three lengths of it; pure
    alarm       what is said that is no move of a build; pure
    words       what makes foreign text harmless, and what fits into an SMS
    targets     an Apprise address: its recipients, and a name that shows no secret
    shape       which of the lengths a service takes
    letter      one notice or alarm on its way, and the headers of its mail
    postman     the child process that knows Apprise; nothing else does
    courier     the server's end of that child
    sender      the coroutine that sends what waits in the outbox

No SQL here: the sender is given an outbox.
"""
