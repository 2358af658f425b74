# Lifts its own limits.
# expect: exception
import resource

for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_CORE):
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        break
    except (ValueError, OSError) as error:
        failure = error
else:
    raise failure
