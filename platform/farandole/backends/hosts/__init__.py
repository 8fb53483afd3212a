"""The backend `hosts`: jobs whose workers run on machines reached by SSH.

Submission, queue, status and logs are those of the backend `local`; the checks of the hosts are `launch`'s.
"""
