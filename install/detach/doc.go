// Package detach makes the objects by which an operation runs in the cluster: a Job of the program that the release carries, with a
// ServiceAccount of its own, rights for what it must do and no more, and a Secret that says what to do. It is pure: what it returns is
// sent by package install.
//
// # Objects
//
// All are named wcbundle-run-RELEASE and carry the label bundle.wordcab.com/run=RELEASE. The Secret, ServiceAccount, Role and RoleBinding
// belong to the Job and go with it, an hour after its end. ClusterRole and ClusterRoleBinding have the namespace in their name; the Job
// removes the binding when the operation has ended, and the role, which belongs to it, goes with it; the next run replaces what a lost one has left.
//
// # The Job
//
// Its pod may be evicted, or its node lost: the next one takes the operation up where the record says. Nothing is on its disk but scratch.
// It runs as 65532, without capabilities, on a root that is read-only (Pod Security Standards, restricted).
package detach
