package lbaas

import (
	"errors"
	"fmt"
)

// Error is a refusal that the API's clients understand: Type is what they
// switch on, Code the HTTP status that belongs to it.
type Error struct {
	Type    string
	Code    int
	Message string
	Detail  string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// IsNotFound tells whether err says that an object does not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == 404
}

// The error types, as the clients of Neutron know them.
const (
	errBadRequest        = "HTTPBadRequest"
	errInvalidInput      = "InvalidInput"
	errDelayOrTimeout    = "DelayOrTimeoutInvalid"
	errProtocolMismatch  = "ProtocolMismatch"
	errNoProvider        = "ServiceProviderNotFound"
	errInvalidIP         = "InvalidIpForSubnet"
	errInvalidNetworkIP  = "InvalidIpForNetwork"
	errNotAuthorized     = "NotAuthorized"
	errPolicy            = "PolicyNotAuthorized"
	errVIPNotFound       = "VipNotFound"
	errPoolNotFound      = "PoolNotFound"
	errMemberNotFound    = "MemberNotFound"
	errMonitorNotFound   = "HealthMonitorNotFound"
	errNoAssociation     = "PoolMonitorAssociationNotFound"
	errNetworkNotFound   = "NetworkNotFound"
	errSubnetNotFound    = "SubnetNotFound"
	errPortNotFound      = "PortNotFound"
	errAgentNotFound     = "AgentNotFound"
	errPoolInUse         = "PoolInUse"
	errMonitorInUse      = "HealthMonitorInUse"
	errNetworkInUse      = "NetworkInUse"
	errSubnetInUse       = "SubnetInUse"
	errServicePort       = "ServicePortInUse"
	errAssociationExists = "PoolMonitorAssociationExists"
	errAddressInUse      = "IpAddressInUse"
	errNoAddressLeft     = "IpAddressGenerationFailure"
	errGatewayConflict   = "GatewayConflictWithAllocationPools"
	errMACInUse          = "MacAddressInUse"
	errInvalidShared     = "InvalidSharedSetting"
	errOverQuota         = "OverQuota"
	errVIPExists         = "VipExists"
	errMemberExists      = "MemberExists"
	errState             = "StateInvalid"
)

// The error types of routers and floating IPs.
const (
	errL3BadRequest          = "BadRequest"
	errInvalidRoutes         = "InvalidRoutes"
	errRoutesExhausted       = "RoutesExhausted"
	errRouterNotFound        = "RouterNotFound"
	errFloatingNotFound      = "FloatingIPNotFound"
	errNoInterface           = "RouterInterfaceNotFound"
	errNoInterfaceForSubnet  = "RouterInterfaceNotFoundForSubnet"
	errNoGateway             = "ExternalGatewayForFloatingIPNotFound"
	errRouterInUse           = "RouterInUse"
	errInterfaceInUse        = "RouterInterfaceInUseByFloatingIP"
	errInterfaceInUseByRoute = "RouterInterfaceInUseByRoute"
	errGatewayInUse          = "RouterExternalGatewayInUseByFloatingIp"
	errFloatingBound         = "FloatingIPPortAlreadyAssociated"
	errL3PortInUse           = "L3PortInUse"
	errPortInUse             = "PortInUse"
	errSubnetMismatch        = "SubnetMismatchForPort"
	errExternalInUse         = "ExternalNetworkInUse"
	errGatewayIPInUse        = "GatewayIpInUse"
)

// refuse makes the Error of a type. The code follows from the type, so that one
// type can't be answered with two codes.
func refuse(typ, format string, args ...any) *Error {
	return &Error{Type: typ, Code: codeOf(typ), Message: fmt.Sprintf(format, args...)}
}

func codeOf(typ string) int {
	switch typ {
	case errNotAuthorized, errPolicy:
		return 403
	case errVIPNotFound, errPoolNotFound, errMemberNotFound, errMonitorNotFound,
		errNoAssociation, errNetworkNotFound, errSubnetNotFound, errPortNotFound,
		errAgentNotFound, errRouterNotFound, errFloatingNotFound, errNoInterface, errNoInterfaceForSubnet, errNoGateway:
		return 404
	case errPoolInUse, errMonitorInUse, errNetworkInUse, errSubnetInUse, errServicePort,
		errAssociationExists, errAddressInUse, errNoAddressLeft, errGatewayConflict,
		errMACInUse, errInvalidShared, errOverQuota, errVIPExists, errMemberExists, errState,
		errRouterInUse, errInterfaceInUse, errInterfaceInUseByRoute, errGatewayInUse, errFloatingBound,
		errL3PortInUse, errPortInUse, errSubnetMismatch, errExternalInUse, errGatewayIPInUse:
		return 409
	}
	return 400
}

// invalid refuses the value of one attribute.
func invalid(typ, attr, format string, args ...any) *Error {
	return refuse(typ, "Invalid input for %s: %s", attr, fmt.Sprintf(format, args...))
}
